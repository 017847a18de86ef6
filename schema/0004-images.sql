-- Whether a repository requires the provenance of an image.
alter table repositories add column provenance text not null default 'optional';
alter table repositories add constraint repositories_provenance_known
  check (provenance in ('optional', 'required'));

-- The version of the analyzer that last analyzed a manifest; 0: it is not yet analyzed.
alter table manifests add column reader smallint not null default 0;
create index manifests_by_reader on manifests (reader, id);

-- The analyses of a blob, one a role, shared by all images with the blob. `facts` is JSON stored as text,
-- and null when the blob was not understood; `problem` says why.
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

-- Every package of any list, in the order of bytes; versions have an order of their own.
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

-- The manifests that are unikernels, with the columns that searches use.
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

-- The blob of each role in an image. Searches find the images of a package through it.
create table image_layers (
  manifest_id bigint not null references images (manifest_id) on delete cascade,
  blob_id bigint not null references blobs (id),
  role text collate "C" not null,
  primary key (blob_id, manifest_id, role)
);
create index image_layers_by_manifest on image_layers (manifest_id);
