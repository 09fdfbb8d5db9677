SELECT auction, bidder, price, made FROM (
  SELECT *, max(price) OVER (PARTITION BY made // 10000) AS most FROM bids
) WHERE price = most
