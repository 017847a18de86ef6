-- A refresh token is prolonged by its use, which is recorded once a day. A token that was made with an earlier secret of
-- the credential ends at `ends_at` in spite of its use.
alter table refresh_tokens
  add column used_at timestamptz not null default now(),
  add column ends_at timestamptz;

-- The secret before the last rotation, and the time until which it is accepted.
alter table credentials
  add column previous_secret_sha256 bytea,
  add column previous_until timestamptz,
  add constraint credentials_previous_whole check (
    (previous_secret_sha256 is null) = (previous_until is null)
  );
create unique index credentials_by_previous_secret on credentials (previous_secret_sha256)
  where previous_secret_sha256 is not null;

-- Somebody changed the settings: an empty repository with settings of its own stays in the catalog.
alter table repositories add column configured boolean not null default false;
update repositories r
   set configured = true
 where r.visibility = 'private'
    or r.immutable_tags <> '{}'
    or r.provenance <> 'optional'
    or (r.permanent
        and not exists (select 1 from manifests m where m.repository_id = r.id)
        and not exists (select 1 from tag_history h where h.repository_id = r.id));

-- A deleted repository keeps its row while its content is removed, and while the feed has events of it. `name` is then
-- a text that no repository can have and that no pattern matches, and the visibility is private, so that no lookup by
-- name and no list finds the row. Its events are for those who could see the repository: `deleted_name` and
-- `deleted_visibility` are what it had.
alter table repositories
  add column deleted_at timestamptz,
  add column deleted_name text collate "C",
  add column deleted_visibility text,
  add column emptied boolean not null default false,
  add constraint repositories_deletion_whole check (
    (deleted_at is null) = (deleted_name is null) and (deleted_at is null) = (deleted_visibility is null)
  );
create index repositories_deleted on repositories (emptied, deleted_at, id) where deleted_at is not null;
