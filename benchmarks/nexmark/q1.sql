SELECT auction, bidder, price * 0.908 AS price, made FROM bids
