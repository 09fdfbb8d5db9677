"""Find conversations, read them in order, and add up what they used."""
