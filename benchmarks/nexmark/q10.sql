SELECT auction, bidder, price, made, made // 86400000 AS day FROM bids
