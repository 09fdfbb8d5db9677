"""The colours and fonts that the pages of all applications share."""
