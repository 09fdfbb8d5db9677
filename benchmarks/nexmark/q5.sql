SELECT auction, num, start * 1000 AS start FROM (
  SELECT *, max(num) OVER (PARTITION BY start) AS most FROM (
    SELECT auction, start, count(*) AS num FROM (
      SELECT auction, unnest(range(made // 2000 * 2000 - 8000, made // 2000 * 2000 + 1, 2000)) AS start FROM bids
    ) GROUP BY auction, start
  )
) WHERE num = most
