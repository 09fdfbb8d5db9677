SELECT auction, bidder, price, bids.made, item, seller FROM bids JOIN auctions ON auction = auctions.id WHERE category = 10
