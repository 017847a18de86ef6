-- A build is a claim of a builder: from these inputs came this kernel, or a failure. A push of an image that is there
-- already is a build as well. `position` orders the builds; `id` is unique in the repository, because clients may choose it.
create table builds (
  position bigint generated always as identity primary key,
  id uuid not null default gen_random_uuid(),
  repository_id bigint not null references repositories (id) on delete cascade,
  -- The image, or the report of a failed build. The build stays when the manifest is deleted.
  manifest_digest text collate "C" not null,
  kernel_digest text collate "C",
  input_id text collate "C",
  result text not null,
  exit_code integer,
  signal integer,
  message text,
  platform text collate "C",
  builder_name text not null,
  builder_origin text,
  started_at timestamptz,
  finished_at timestamptz,
  recorded_at timestamptz not null default clock_timestamp(),
  constraint builds_result_known check (result in ('succeeded', 'failed', 'signalled', 'error')),
  constraint builds_kernel_whole check ((kernel_digest is not null) = (result = 'succeeded'))
);
create unique index builds_by_id on builds (repository_id, id);
create index builds_by_repository on builds (repository_id, position);
create index builds_by_platform on builds (repository_id, platform, position);
create index builds_by_builder on builds (repository_id, builder_name, position);
create index builds_by_result on builds (repository_id, result, position);
create index builds_by_manifest on builds (repository_id, manifest_digest, position);
create index builds_by_input on builds (input_id, position) where input_id is not null;
create index builds_by_kernel on builds (kernel_digest, position) where kernel_digest is not null;

-- The manifests that clients with a right to push have read lately. A push of such a manifest by its reader is a copy.
create table manifest_reads (
  reader text collate "C" not null,
  manifest_digest text collate "C" not null,
  read_at timestamptz not null default now(),
  primary key (reader, manifest_digest)
);
create index manifest_reads_by_time on manifest_reads (read_at);

-- The client that mounted a blob last, and when. A push of an image whose kernel the client has just mounted is a copy.
alter table repository_blobs
  add column mounted_by text collate "C",
  add column mounted_at timestamptz,
  add constraint repository_blobs_mount_whole check ((mounted_by is null) = (mounted_at is null));

-- Records a build, unless the push is a retry of one (`retry`) or a copy (`copy`). The lock lets builds of one repository
-- from the same inputs see each other; each statement after it sees what the one before committed.
create function record_build(
  of_repository bigint, chosen uuid, manifest text, kernel text, input text, outcome text, code integer, signal_number integer,
  reason text, built_on text, builder text, origin text, started timestamptz, finished timestamptz,
  retry_seconds integer, copy_seconds integer, shown integer
) returns table (kind text, build_id uuid, same json, other json)
  language plpgsql volatile as $$
declare
  known builds;
  place bigint;
begin
  perform pg_advisory_xact_lock(hashtextextended(of_repository || ' ' || coalesce(input, kernel, manifest), 19));
  if chosen is not null then
    select * into known from builds b where b.repository_id = of_repository and b.id = chosen;
    if found and known.manifest_digest <> manifest then
      raise exception 'build % is of another manifest, %', chosen, known.manifest_digest using errcode = 'RK409';
    end if;
  end if;
  if known.id is null then
    select * into known
      from builds b
     where b.repository_id = of_repository
       and b.manifest_digest = manifest
       and b.builder_name = builder
       and b.builder_origin is not distinct from origin
       -- A time ahead of the clock is not recent.
       and b.recorded_at between clock_timestamp() - make_interval(secs => retry_seconds)
                             and clock_timestamp() + make_interval(secs => retry_seconds)
     order by b.position desc
     limit 1;
    if not found and chosen is null and copy_seconds > 0 and (
      exists (
        select 1
          from manifest_reads r
         where r.reader = coalesce(origin, builder)
           and r.manifest_digest = manifest
           and r.read_at between clock_timestamp() - make_interval(secs => copy_seconds)
                             and clock_timestamp() + make_interval(secs => copy_seconds)
      ) or exists (
        select 1
          from blobs b
          join repository_blobs rb on rb.blob_id = b.id and rb.repository_id = of_repository
         where b.digest = kernel
           and rb.mounted_by = coalesce(origin, builder)
           and rb.mounted_at between clock_timestamp() - make_interval(secs => copy_seconds)
                                 and clock_timestamp() + make_interval(secs => copy_seconds)
      )
    ) then
      return query select 'copy', null::uuid, null::json, null::json;
      return;
    end if;
  end if;
  if known.id is not null then
    return query select 'retry', known.id, null::json, null::json;
    return;
  end if;
  insert into builds
         (id, repository_id, manifest_digest, kernel_digest, input_id, result, exit_code, signal, message, platform,
          builder_name, builder_origin, started_at, finished_at)
  values (coalesce(chosen, gen_random_uuid()), of_repository, manifest, kernel, input, outcome, code, signal_number,
          reason, built_on, builder, origin, started, finished)
  returning builds.id, builds.position into build_id, place;
  return query
    with earlier as (
      select b.id, b.manifest_digest, b.builder_name, b.kernel_digest = kernel as is_same, b.position
        from builds b
       where b.input_id = input
         and b.repository_id = of_repository
         and b.kernel_digest is not null
         and b.position < place
       order by b.position desc
       limit 10 * shown
    ), listed as (
      select e.is_same, e.position,
             json_build_object('id', e.id, 'digest', e.manifest_digest, 'builder', e.builder_name) as build,
             row_number() over (partition by e.is_same order by e.position desc) as n
        from earlier e
    )
    select 'new', build_id,
           coalesce((select json_agg(l.build order by l.position desc) from listed l where l.is_same and l.n <= shown), '[]'),
           coalesce((select json_agg(l.build order by l.position desc) from listed l where not l.is_same and l.n <= shown), '[]')
     where kernel is not null;
  if not found then
    return query select 'new', build_id, '[]'::json, '[]'::json;
  end if;
end $$;

-- One build of each image that is there already, with all that is stored about it.
insert into builds (repository_id, manifest_digest, kernel_digest, input_id, result, builder_name, recorded_at)
select m.repository_id, m.digest, i.kernel_digest, i.input_id, 'succeeded', m.pushed_by, m.pushed_at
  from images i
  join manifests m on m.id = i.manifest_id
 order by m.id;
