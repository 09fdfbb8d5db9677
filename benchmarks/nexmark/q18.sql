SELECT auction, bidder, price, made FROM (
  SELECT *, row_number() OVER (PARTITION BY bidder, auction ORDER BY made DESC, price) AS place FROM bids
) WHERE place = 1
