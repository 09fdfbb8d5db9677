SELECT DISTINCT persons.id, name FROM persons JOIN auctions
ON persons.id = seller AND persons.made // 10000 = auctions.made // 10000
