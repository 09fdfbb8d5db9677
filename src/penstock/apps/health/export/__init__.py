"""Reading exports: from the bytes of a body to rows."""
