-- One row: the newest complete backup, so that the server knows its age. `taken_at` is the time of its snapshot of the
-- database; `bytes` are those of its blobs.
create table last_backup (
  single boolean primary key default true,
  name text not null,
  folder text not null,
  taken_at timestamptz not null,
  finished_at timestamptz not null default now(),
  row_count bigint not null,
  blob_count bigint not null,
  bytes bigint not null,
  constraint last_backup_once check (single)
);
