-- What repositories demand of an image: that it says from what it was made, or nothing.
alter table repositories add column provenance text not null default 'optional';
alter table repositories add constraint repositories_provenance_known
  check (provenance in ('optional', 'required'));

-- The version of the reader that looked at a manifest last; 0: nobody did, and somebody has to.
alter table manifests add column reader smallint not null default 0;
create index manifests_by_reader on manifests (reader, id);

-- What was read out of bytes, once for all images that have them, by what they were taken for.
-- `facts` is JSON kept as text, and null when there was nothing to understand; `problem` says why.
create table layer_facts (
  blob_id bigint not null references blobs (id) on delete cascade,
  role text collate "C" not null,
  reader smallint not null,
  sha256 text collate "C",
  problem text,
  facts text,
  read_at timestamptz not null default now(),
  primary key (blob_id, role)
);

-- Every package that any list names, in the order of bytes; versions have an order of their own.
create table packages (
  id bigint generated always as identity primary key,
  ecosystem text collate "C" not null,
  name text collate "C" not null,
  version text collate "C" not null,
  constraint packages_once unique (ecosystem, name, version)
);

create table layer_packages (
  package_id bigint not null references packages (id),
  blob_id bigint not null references blobs (id) on delete cascade,
  primary key (package_id, blob_id)
);
create index layer_packages_by_blob on layer_packages (blob_id);

-- The manifests that are unikernels, with what they are asked for.
create table images (
  manifest_id bigint primary key references manifests (id) on delete cascade,
  repository_id bigint not null references repositories (id) on delete cascade,
  kernel_digest text collate "C" not null,
  kernel_title text,
  target text not null,
  abi_version bigint not null,
  architecture text,
  -- `net:service`, in the order of the kernel.
  devices text[] not null,
  input_id text collate "C"
);
create index images_by_repository on images (repository_id, manifest_id);
create index images_by_kernel on images (kernel_digest, manifest_id);
create index images_by_input on images (input_id, manifest_id) where input_id is not null;

-- Which bytes stand for what in an image: how packages lead to images.
create table image_layers (
  manifest_id bigint not null references images (manifest_id) on delete cascade,
  blob_id bigint not null references blobs (id),
  role text collate "C" not null,
  primary key (blob_id, manifest_id, role)
);
create index image_layers_by_manifest on image_layers (manifest_id);
