-- Names sort by bytes (collate "C"): the distribution spec wants tags in that order, and the same
-- index serves the page that starts after a name.

create table repositories (
  id bigint generated always as identity primary key,
  name text collate "C" not null,
  visibility text not null,
  created_at timestamptz not null default now(),
  constraint repositories_name_once unique (name),
  constraint repositories_visibility_known check (visibility in ('public', 'private'))
);

-- Bytes that storage holds. A row is written after its bytes, and removed before them.
create table blobs (
  id bigint generated always as identity primary key,
  digest text collate "C" not null,
  size bigint not null,
  storage_key text collate "C" not null,
  created_at timestamptz not null default now(),
  touched_at timestamptz not null default now(),
  constraint blobs_digest_once unique (digest),
  constraint blobs_storage_key_once unique (storage_key),
  constraint blobs_size_natural check (size >= 0)
);

-- The blobs of each repository: a blob is visible only in a repository that has a row here.
create table repository_blobs (
  repository_id bigint not null references repositories (id) on delete cascade,
  blob_id bigint not null references blobs (id),
  added_at timestamptz not null default now(),
  primary key (repository_id, blob_id)
);
create index repository_blobs_by_blob on repository_blobs (blob_id);

-- Uploads in progress. `stage` is the store's own bookmark. `lease` names the one writer at a time.
create table uploads (
  id uuid primary key,
  repository_id bigint not null references repositories (id) on delete cascade,
  actor text not null,
  algorithm text not null,
  size bigint not null default 0,
  stage jsonb not null,
  lease uuid,
  lease_until timestamptz,
  created_at timestamptz not null default now(),
  expires_at timestamptz not null,
  constraint uploads_size_natural check (size >= 0),
  constraint uploads_lease_whole check ((lease is null) = (lease_until is null))
);
create index uploads_by_expiry on uploads (expires_at);
create index uploads_by_repository on uploads (repository_id);

-- `bytes` are the pushed bytes. `annotations` is JSON stored as text: Postgres' own JSON types refuse
-- some strings that a manifest may contain, and no statement reads inside.
create table manifests (
  id bigint generated always as identity primary key,
  repository_id bigint not null references repositories (id) on delete cascade,
  digest text collate "C" not null,
  media_type text not null,
  artifact_type text,
  subject text collate "C",
  annotations text,
  bytes bytea not null,
  pushed_by text not null,
  pushed_at timestamptz not null default now(),
  constraint manifests_digest_once unique (repository_id, digest)
);
create index manifests_by_subject on manifests (repository_id, subject, id) where subject is not null;
create index manifests_by_subject_and_type on manifests (repository_id, subject, artifact_type, id)
  where subject is not null;

-- Edges keep blobs alive. A child may be deleted while its index stays, so it is named by digest.
create table manifest_blobs (
  manifest_id bigint not null references manifests (id) on delete cascade,
  blob_id bigint not null references blobs (id),
  primary key (manifest_id, blob_id)
);
create index manifest_blobs_by_blob on manifest_blobs (blob_id);

create table manifest_children (
  manifest_id bigint not null references manifests (id) on delete cascade,
  digest text collate "C" not null,
  primary key (manifest_id, digest)
);
create index manifest_children_by_digest on manifest_children (digest);

-- `previous_digest` is the digest that the last push replaced. The statement that replaces it sets it, so
-- each of two concurrent pushes learns exactly what it replaced, also for a new tag.
create table tags (
  repository_id bigint not null references repositories (id) on delete cascade,
  name text collate "C" not null,
  digest text collate "C" not null,
  previous_digest text collate "C",
  moved_at timestamptz not null default now(),
  primary key (repository_id, name),
  constraint tags_digest_known foreign key (repository_id, digest)
    references manifests (repository_id, digest)
);
create index tags_by_digest on tags (repository_id, digest);

-- Every position that a tag ever had; `digest` is null where the tag was deleted. `id` orders the
-- positions of a tag, because its moves are serialized.
create table tag_history (
  id bigint generated always as identity primary key,
  repository_id bigint not null references repositories (id) on delete cascade,
  tag text collate "C" not null,
  digest text collate "C",
  previous_digest text collate "C",
  actor text not null,
  reason text not null,
  moved_at timestamptz not null default now(),
  constraint tag_history_reason_known check (reason in ('push', 'delete', 'api', 'rollback', 'promotion')),
  constraint tag_history_moves check (digest is not null or previous_digest is not null)
);
create index tag_history_by_tag on tag_history (repository_id, tag, id);

-- The secret itself is shown once and never stored.
create table credentials (
  id bigint generated always as identity primary key,
  name text not null,
  kind text not null,
  secret_sha256 bytea not null,
  created_at timestamptz not null default now(),
  constraint credentials_name_once unique (name),
  constraint credentials_kind_known check (kind in ('admin')),
  constraint credentials_secret_hashed check (octet_length(secret_sha256) = 32)
);
