-- A blob is `unchecked` from every touch until a sweep finds that a manifest names it. So a sweep
-- reads what was touched since, and not everything there is.
alter table blobs add column unchecked boolean not null default true;
create index blobs_unchecked on blobs (touched_at, id) where unchecked;

-- `digest` is what the last closing request said that the upload would be. `untidy` when a request
-- failed or its writer died: more may lie in the store than the stage tells.
alter table uploads add column digest text collate "C";
alter table uploads add column untidy boolean not null default false;

-- Bytes whose rows are gone: a blob's, under its key, or everything that was ever written for an
-- upload, but for what became a blob. Written with the removal of the row and deleted after the bytes,
-- so that a crash in between forgets nothing. `due_at` moves on while somebody is at it.
create table removals (
  id bigint generated always as identity primary key,
  storage_key text collate "C",
  upload_id uuid,
  digest text collate "C",
  kept_key text collate "C",
  queued_at timestamptz not null default now(),
  due_at timestamptz not null default now(),
  constraint removals_of_one check ((storage_key is null) <> (upload_id is null))
);
create index removals_by_due on removals (due_at, id);
create index removals_by_storage_key on removals (storage_key);
create index removals_by_upload on removals (upload_id);

-- While one of these lasts, no bytes of a blob are removed: somebody copies them.
create table removal_holds (
  id bigint generated always as identity primary key,
  until timestamptz not null,
  reason text not null
);

-- How far long work on the whole store came, so that it can go on after a stop.
create table maintenance (
  name text primary key,
  progress jsonb not null,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
