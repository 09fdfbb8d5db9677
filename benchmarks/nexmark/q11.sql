SELECT bidder, count(*) AS num, min(made) * 1000 AS start FROM (
  SELECT *, sum(begins) OVER (PARTITION BY bidder ORDER BY made, auction, price) AS session FROM (
    SELECT *, CASE WHEN made - lag(made) OVER (PARTITION BY bidder ORDER BY made, auction, price) < 10000 THEN 0 ELSE 1 END AS begins
    FROM bids
  )
) GROUP BY bidder, session
