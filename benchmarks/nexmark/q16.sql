SELECT channel, count(*) AS bids,
  count(*) FILTER (WHERE price < 1000) AS low, count(*) FILTER (WHERE price >= 1000 AND price < 3000) AS middle,
  count(*) FILTER (WHERE price >= 3000) AS high, count(DISTINCT bidder) AS bidders, count(DISTINCT auction) AS auctions,
  count(DISTINCT bidder) FILTER (WHERE price < 1000) AS low_bidders FROM bids GROUP BY channel
