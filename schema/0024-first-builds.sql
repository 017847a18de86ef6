-- A name of a job is bound by the first build of a public repository, and no longer by a repository that may stay empty:
-- a refused upload, or an upload without a manifest, binds nothing.
drop trigger repositories_name_job on repositories;
drop function name_job();

-- True once somebody was answered under the name. Such a name survives its repository, because programs follow it.
alter table job_names add column followed boolean not null default true;
alter table job_names alter column followed set default false;

-- When everybody could see the build first, in the order of positions; null while nobody else could. A kernel leads to the
-- repository whose build has the lowest number.
alter table builds add column public_since bigint;
update builds b
   set public_since = b.position
  from repositories r
 where r.id = b.repository_id
   and (r.visibility = 'public' or r.deleted_visibility = 'public');
create index builds_by_public_kernel on builds (kernel_digest, public_since)
  where kernel_digest is not null and public_since is not null;
create index builds_never_public on builds (repository_id) where public_since is null;

-- Names that were bound by repositories without builds are free again.
delete from job_names n
 where not exists (
   select 1
     from repositories r
     join builds b on b.repository_id = r.id
    where coalesce(r.deleted_name, r.name) = n.repository
 );
-- From the id of a repository to the position of a build: what was older than the name stays so.
update job_names n
   set since = coalesce((
         select case when r.id < n.since then max(b.position) + 1 else 0 end
           from repositories r
           join builds b on b.repository_id = r.id
          where r.name = n.name
            and r.name <> n.repository
          group by r.id
       ), 0);
comment on column job_names.since is
  'The position of builds at which the name was bound. A private repository with an earlier build is older than the name.';

create function name_job(of_repository text, at_position bigint) returns void
  language plpgsql as $$
declare
  component text := substring(of_repository from '[^/]*$');
begin
  if not exists (select 1 from job_names where name = component) then
    insert into job_names (name, repository, since)
    values (component, of_repository, at_position)
        on conflict (name) do nothing;
  end if;
end $$;

-- The lock orders the build and a change of the visibility.
create function publish_build() returns trigger
  language plpgsql as $$
declare
  public_name text;
begin
  if new.public_since is not null then
    return new;
  end if;
  select name into public_name
    from repositories
   where id = new.repository_id
     and visibility = 'public'
     for share;
  if found then
    new.public_since := new.position;
    perform name_job(public_name, new.position);
  end if;
  return new;
end $$;

create trigger builds_published
  before insert on builds
  for each row execute function publish_build();

create function publish_builds() returns trigger
  language plpgsql as $$
declare
  at_position bigint := nextval(pg_get_serial_sequence('builds', 'position'));
begin
  update builds
     set public_since = at_position
   where repository_id = new.id
     and public_since is null;
  if exists (select 1 from builds where repository_id = new.id) then
    perform name_job(new.name, at_position);
  end if;
  return null;
end $$;

create trigger repositories_published
  after update of visibility on repositories
  for each row when (new.visibility = 'public' and old.visibility <> 'public')
  execute function publish_builds();
