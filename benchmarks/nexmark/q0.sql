SELECT auction, bidder, price, made FROM bids
