"""How rows flow: reading, the log, regrouping, transforming in threads, writing in order, settling."""
