-- How a package of a list is known, and the ordinal of the source that holds it.
alter table layer_packages
  add column basis text collate "C" not null default 'installed',
  add column source integer,
  add constraint layer_packages_basis_known check (basis in ('installed', 'lock', 'index', 'inferred', 'unknown'));

-- The sources that unikernels were built from, each once for all lists: an archive or a commit. `digest` is the SHA-256 of
-- URL and checksums; `repository` is the address of the source repository, such as `github.com/mirage/mirage`.
create table sources (
  id bigint generated always as identity primary key,
  digest text collate "C" not null,
  url text not null,
  repository text collate "C",
  checksums text[] not null,
  constraint sources_once unique (digest)
);
create index sources_by_repository on sources (repository, id) where repository is not null;

create table source_checksums (
  checksum text collate "C" not null,
  source_id bigint not null references sources (id) on delete cascade,
  primary key (checksum, source_id)
);
create index source_checksums_by_source on source_checksums (source_id);

-- The sources that a switch export or a lock file lists, in its order from 0.
create table layer_sources (
  source_id bigint not null references sources (id),
  blob_id bigint not null references blobs (id) on delete cascade,
  ordinal integer not null,
  directory text not null,
  primary key (blob_id, ordinal)
);
create index layer_sources_by_source on layer_sources (source_id, blob_id);

-- The index of opam repositories: a checksum, commit or URL, and a package that such a source holds.
create table opam_sources (
  key text collate "C" not null,
  name text collate "C" not null,
  version text collate "C" not null,
  primary key (key, name, version)
);

-- The opam files that were read, by package: a file that did not change is not read again.
create table opam_files (
  name text collate "C" not null,
  version text collate "C" not null,
  sha256 text collate "C" not null,
  primary key (name, version, sha256)
);

-- The places that the index was imported from: a folder, a file or a URL. The version of the index is the highest
-- `version`; an import that adds something increases it.
create table opam_imports (
  origin text collate "C" not null,
  version integer not null,
  -- The last answer of a server, to ask for changes only.
  etag text,
  files integer not null,
  problems integer not null,
  imported_at timestamptz not null default now(),
  checked_at timestamptz not null default now(),
  primary key (origin)
);

-- The packages and sources of a list, as JSON, to resolve it again after an import, and the version of the index with
-- which it was resolved.
alter table layer_analyses
  add column lists text,
  add column index_version integer not null default 0;
create index layer_analyses_by_index on layer_analyses (index_version, blob_id) where lists is not null;
