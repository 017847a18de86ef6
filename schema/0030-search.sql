-- A search finds a manifest by the beginning of its digest, and a tag by its name, in all repositories.
create index manifests_by_digest on manifests (digest, repository_id);
create index tags_by_name on tags (name, repository_id);
