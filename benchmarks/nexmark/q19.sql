SELECT auction, bidder, price, made FROM (
  SELECT *, row_number() OVER (PARTITION BY auction ORDER BY price DESC, made, bidder) AS place FROM bids
) WHERE place <= 10
