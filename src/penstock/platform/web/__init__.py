"""What every HTTP API of an application shares: errors, paging, cursors."""
