"""How the tables came to be as they are: one step for each change of the schema."""
