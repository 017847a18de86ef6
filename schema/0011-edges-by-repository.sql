-- The repository of each edge: what contains a part in one repository is found without a look at the edges of others.
alter table manifest_blobs add column repository_id bigint;
alter table manifest_children add column repository_id bigint;

update manifest_blobs e
   set repository_id = m.repository_id
  from manifests m
 where m.id = e.manifest_id;
update manifest_children e
   set repository_id = m.repository_id
  from manifests m
 where m.id = e.manifest_id;

-- The previous release names no repository.
create function set_edge_repository() returns trigger language plpgsql as $$
begin
  select repository_id into new.repository_id from manifests where id = new.manifest_id;
  return new;
end
$$;
create trigger manifest_blobs_repository before insert on manifest_blobs
  for each row when (new.repository_id is null) execute function set_edge_repository();
create trigger manifest_children_repository before insert on manifest_children
  for each row when (new.repository_id is null) execute function set_edge_repository();

alter table manifest_blobs alter column repository_id set not null;
alter table manifest_children alter column repository_id set not null;

create index manifest_blobs_by_blob_and_repository on manifest_blobs (blob_id, repository_id);
create index manifest_children_by_digest_and_repository on manifest_children (digest, repository_id);
drop index manifest_blobs_by_blob;
drop index manifest_children_by_digest;
