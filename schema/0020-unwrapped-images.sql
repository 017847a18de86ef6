-- The image of a kernel that is a file in a layer of a container image: Rookery makes its manifest, and it goes with the
-- container image. Deferred, so that a restore may insert the two in any order.
alter table manifests
  add column unwrapped_from bigint,
  add constraint manifests_unwrapped_from_exists foreign key (unwrapped_from) references manifests (id)
    on delete cascade deferrable initially deferred;
create index manifests_by_unwrapped_from on manifests (unwrapped_from) where unwrapped_from is not null;

-- Container images whose layers a background loop has still to read, and those of which a layer cannot be read.
create table unwraps (
  manifest_id bigint primary key references manifests (id) on delete cascade,
  is_pending boolean not null,
  -- Why the image has no kernel, or not all of them. Null: nothing is known to be missing.
  problem text,
  -- The origin of the pusher, as in `builds`.
  builder_origin text,
  attempts integer not null default 0,
  -- When it is tried next: also the end of the lease of the process that reads it.
  due_at timestamptz not null default now()
);
create index unwraps_pending on unwraps (due_at) where is_pending;
