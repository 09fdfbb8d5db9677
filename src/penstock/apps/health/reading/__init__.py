"""The SQL behind the routes: what is asked of the tables, and the rows that come back."""
