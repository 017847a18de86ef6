-- The tags of a manifest in the order of their names: a list of images shows the first ones of each.
create index tags_by_digest_and_name on tags (repository_id, digest, name);
drop index tags_by_digest;

-- The rare entries of the audit log. An allowed push, which is most of it, is in neither index.
create index audit_by_action on audit (action, id) where action <> 'push';
create index audit_refused on audit (id) where decision = 'refused';

-- Patterns are compared with the names of private repositories, however many public ones are between them.
create index repositories_private on repositories (name) where visibility = 'private';

-- Revocations that expired are found without those that last.
create index revocations_by_expiry on revocations (expires_at);
