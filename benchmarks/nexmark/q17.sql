SELECT auction, count(*) AS bids, min(price) AS low, max(price) AS high, avg(price) AS mean, sum(price) AS total
FROM bids GROUP BY auction
