/**
 * The rest of a statement that stores the packages and sources of lists: it follows `given` (blob_id, packages, sources and
 * names as JSON) and `present` (the ids of blobs that exist), ends with `stored`, and needs a comma before it.
 *
 * A source whose checksum, commit or URL is in the index holds the packages that the index says, of which those that the
 * build names are inside, or all when it names none of them. A name that is only known from the list itself counts unless
 * the index knows better; the version in a lock file always counts. Names are compared by sorting: Postgres cannot estimate the
 * rows in JSON, and would choose nested loops, which take minutes for the largest lists.
 */
export const RESOLUTION = `
     listed_sources as (
       select g.blob_id, s.ordinal, s.directory, s.url, s.repository, s.checksums, s.keys, s.digest,
              s."packageName" as package_name, s."packageVersion" as package_version,
              (
                select id
                  from sources
                 where digest = s.digest
              ) as id
         from given g
         join present on present.id = g.blob_id
        cross join json_to_recordset(g.sources)
              as s (ordinal integer, directory text, url text, repository text, checksums text[],
                    keys text[], digest text, "packageName" text, "packageVersion" text)
     ), new_sources as (
       insert into sources (digest, url, repository, checksums)
       select distinct on (digest) digest, url, repository, checksums
         from listed_sources
        where id is null
        order by digest
           on conflict (digest) do update set url = excluded.url
       returning id, digest, checksums
     ), new_checksums as (
       insert into source_checksums (checksum, source_id)
       select unnest(checksums), id
         from new_sources
           on conflict do nothing
     ), linked_sources as (
       insert into layer_sources (source_id, blob_id, ordinal, directory, package_name, package_version)
       select coalesce(l.id, n.id), l.blob_id, l.ordinal, l.directory, l.package_name, l.package_version
         from listed_sources l
         left join new_sources n using (digest)
           on conflict (blob_id, ordinal) do update
          set source_id = excluded.source_id,
              directory = excluded.directory,
              package_name = excluded.package_name,
              package_version = excluded.package_version
     ), unlinked_sources as (
       delete from layer_sources s
        using present
        where s.blob_id = present.id
          and exists (select true from listed_sources l where l.blob_id = s.blob_id)
          and not exists (
                select true
                  from listed_sources l
                 where l.blob_id = s.blob_id
                   and l.ordinal = s.ordinal)
     ), indexed as (
       select blob_id, ordinal, name, version, is_named,
              bool_or(is_named) over (partition by blob_id, ordinal) as has_named
         from (
           select blob_id, ordinal, name, version,
                  bool_or(ordinal is null) over (partition by blob_id, name) as is_named
             from (
               select distinct l.blob_id, l.ordinal, o.name, o.version
                 from listed_sources l
                cross join unnest(l.keys) as held (key)
                 join opam_sources o on o.key = held.key
               union all
               select g.blob_id, null, n.name, null
                 from given g
                cross join json_array_elements_text(g.names) as n (name)
             ) names
         ) held
        where ordinal is not null
     ), claims as (
       select blob_id, ecosystem, name, version, basis, source, is_named,
              bool_or(basis = 'lock') over by_name as has_lock,
              bool_or(basis = 'index') over by_name as has_index,
              min(source) filter (where basis = 'index') over by_name as index_source,
              bool_or(basis = 'index') over (partition by blob_id, source) as is_indexed
         from (
           select g.blob_id, p.ecosystem, p.name, p.version, p.basis, p.source, p."isNamed" as is_named
             from given g
             join present on present.id = g.blob_id
            cross join json_to_recordset(g.packages)
                  as p (ecosystem text, name text, version text, basis text, source integer, "isNamed" boolean)
           union all
           select blob_id, 'opam', name, version, 'index', ordinal, true
             from indexed
            where is_named or not has_named
         ) all_claims
       window by_name as (partition by blob_id, ecosystem, name)
     ), facts as (
       select blob_id, ecosystem, name, version, basis,
              case basis when 'lock' then coalesce(source, index_source) else source end as source
         from claims
        where case
                when basis in ('installed', 'lock') then true
                when basis = 'index' then not has_lock
                else not has_index and (is_named or source is null or not is_indexed)
              end
     ), listed as materialized (
       select f.blob_id, f.ecosystem, f.name, f.version, f.basis, f.source,
              (
                select id
                  from packages
                 where ecosystem = f.ecosystem
                   and name = f.name
                   and version = f.version
              ) as id
         from (
           select blob_id, ecosystem, name, version, min(source) as source,
                  (array_agg(basis order by array_position(array['installed', 'lock', 'index', 'inferred', 'unknown'], basis)))[1] as basis
             from facts
            group by blob_id, ecosystem, name, version
         ) f
     ), added as (
       insert into packages (ecosystem, name, version)
       select distinct ecosystem, name, version
         from listed
        where id is null
        order by ecosystem, name, version
           on conflict (ecosystem, name, version) do update set name = excluded.name
       returning id, ecosystem, name, version
     ), removed as (
       delete from layer_packages lp
        using packages p
        where lp.blob_id in (select id from present)
          and p.id = lp.package_id
          and exists (
                select true
                  from listed
                 where listed.blob_id = lp.blob_id
                   and listed.ecosystem = p.ecosystem)
          and not exists (
                select true
                  from listed
                 where listed.blob_id = lp.blob_id
                   and listed.id = lp.package_id)
     ), stored as (
       insert into layer_packages (package_id, blob_id, basis, source)
       select coalesce(listed.id, added.id), listed.blob_id, listed.basis, listed.source
         from listed
         left join added using (ecosystem, name, version)
           on conflict (package_id, blob_id) do update
          set basis = excluded.basis,
              source = excluded.source
        where layer_packages.basis <> excluded.basis
           or layer_packages.source is distinct from excluded.source
       returning blob_id
     )`
