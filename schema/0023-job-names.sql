-- The first public repository whose name ends with a component has it as the name of its job, for ever: a repository that
-- comes later never takes the name, also when the first one is deleted or made private. Private repositories have no row,
-- because a row shows that the name is taken.
create table job_names (
  name text collate "C" primary key,
  repository text collate "C" not null,
  -- The id that the repository had then. A private repository with a lower id is older than the name.
  since bigint not null
);

create function name_job() returns trigger
  language plpgsql as $$
begin
  insert into job_names (name, repository, since)
  values (substring(new.name from '[^/]*$'), new.name, new.id)
      on conflict (name) do nothing;
  return null;
end $$;

create trigger repositories_name_job
  after insert or update of visibility on repositories
  for each row when (new.visibility = 'public') execute function name_job();

insert into job_names (name, repository, since)
select distinct on (substring(name from '[^/]*$')) substring(name from '[^/]*$'), name, id
  from repositories
 where visibility = 'public'
 order by substring(name from '[^/]*$'), id;

-- The newest build is the one that began last. A builder's clock may be ahead, but no build begins after it was recorded.
create index builds_by_start on builds (repository_id, least(started_at, recorded_at), position)
  where kernel_digest is not null;
create index builds_by_platform_and_start on builds (repository_id, platform, least(started_at, recorded_at), position)
  where kernel_digest is not null;
create index builds_by_kernel_and_start
  on builds (repository_id, kernel_digest, least(started_at, recorded_at), position)
  where kernel_digest is not null;
create index builds_failed on builds (least(started_at, recorded_at), position) where kernel_digest is null;
create index builds_failed_by_repository on builds (repository_id, least(started_at, recorded_at), position)
  where kernel_digest is null;
-- An id is unique in a repository; a comparison of two builds names no repository.
create index builds_by_id_alone on builds (id, position);
