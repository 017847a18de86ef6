-- A page of the catalog reads public repositories alone, however many private ones are between them.
create index repositories_public on repositories (name) where visibility = 'public';
