"""What applications share: database and migrations, access, web, pages, jobs, archive and cache."""
