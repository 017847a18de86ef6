-- The synopsis and the target that a layer declares, as JSON. Small, so that a push and a list need not read `facts`.
alter table layer_analyses add column summary text;

-- Images of all repositories are searched by their target.
create index images_by_target on images (target, manifest_id);

-- Only a Solo5 kernel has an ABI and lists its devices: both are null for a unikernel of another kind.
alter table images alter column abi_version drop not null;
alter table images alter column devices drop not null;
