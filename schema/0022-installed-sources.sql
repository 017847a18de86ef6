-- The package that opam installed from a source. Null for a vendored source, whose packages name its ordinal.
alter table layer_sources
  add column package_name text collate "C",
  add column package_version text collate "C";

drop index layer_sources_by_source;
create index layer_sources_by_source on layer_sources (source_id, blob_id, ordinal);

-- The packages in a vendored source.
create index layer_packages_by_source on layer_packages (blob_id, source, package_id) where source is not null;
