SELECT auction, bidder, price * 0.908 AS price,
  CASE WHEN made // 3600000 % 24 BETWEEN 8 AND 18 THEN 'day' WHEN made // 3600000 % 24 BETWEEN 6 AND 20 THEN 'dawn' ELSE 'night' END AS hours,
  length(extra) - length(replace(extra, 'c', '')) AS cs
FROM bids WHERE price * 0.908 > 1000 AND price * 0.908 < 5000
