SELECT id, price, bidder, bid_at FROM (
SELECT auctions.id, category, seller, expires, price, bidder, bids.made AS bid_at,
row_number() OVER (PARTITION BY auctions.id ORDER BY price DESC, bids.made, bidder) AS place
FROM auctions JOIN bids ON auctions.id = bids.auction AND bids.made BETWEEN auctions.made AND auctions.expires
) WHERE place = 1
