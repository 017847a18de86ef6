-- Pictures of the facts of a blob, made once by a worker thread: the graph of a switch export, and the sizes of a program's
-- parts. While one is being made, `made_at` is null, and `started_at` begins the lease of the process that makes it.
create table layer_pictures (
  blob_id bigint not null references blobs (id) on delete cascade,
  kind text collate "C" not null,
  -- The version of the code that makes it.
  version smallint not null,
  -- Times that a process began to make it: more than one when processes died meanwhile.
  attempts smallint not null default 1,
  started_at timestamptz not null default now(),
  made_at timestamptz,
  -- JSON: what the picture shows, and its coordinates. Null when `problem` says why there is none.
  facts text,
  picture text,
  problem text,
  primary key (blob_id, kind),
  constraint layer_pictures_kind_known check (kind in ('graph', 'sizes')),
  constraint layer_pictures_made check ((made_at is null) = (picture is null and problem is null))
);
