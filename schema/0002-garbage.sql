-- A blob is `unchecked` from every touch until a sweep finds that a manifest references it. A sweep
-- therefore reads only the blobs that were touched since the last one.
alter table blobs add column unchecked boolean not null default true;
create index blobs_unchecked on blobs (touched_at, id) where unchecked;

-- `digest` is the digest that the last closing request stated. `untidy` is true when a request failed or
-- its writer died: the store may hold more bytes than the stage lists.
alter table uploads add column digest text collate "C";
alter table uploads add column untidy boolean not null default false;

-- Bytes without rows: those of a blob, under its key, or all writes of an upload apart from those that
-- became a blob. A row is written when the row of the bytes is removed, and deleted after the bytes, so a
-- crash in between loses nothing. A process that works on a row moves its `due_at` into the future.
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

-- While one of these lasts, no bytes of a blob are removed, because a backup copies them.
create table removal_holds (
  id bigint generated always as identity primary key,
  until timestamptz not null,
  reason text not null
);

-- The progress of long jobs on the whole store, so that they can continue after a stop.
create table maintenance (
  name text primary key,
  progress jsonb not null,
  started_at timestamptz not null default now(),
  updated_at timestamptz not null default now()
);
