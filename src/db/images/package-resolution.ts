/**
 * The rest of a statement that stores the packages and sources of lists: it follows `given` (blob_id, packages, sources and
 * names as JSON) and `present` (the ids of blobs that exist), ends with `stored`, and needs a comma before it.
 *
 * A source whose checksum, commit or URL is in the index holds the packages that the index says, of which those that the
 * build names are inside, or all when it names none of them. A name that is only known from the list itself counts unless
 * the index knows better; the version in a lock file always counts.
 */
export const RESOLUTION = `
     listed_sources as (
       select g.blob_id, s.ordinal, s.directory, s.url, s.repository, s.checksums, s.keys, s.digest,
              (
                select id
                  from sources
                 where digest = s.digest
              ) as id
         from given g
         join present on present.id = g.blob_id
        cross join json_to_recordset(g.sources)
              as s (ordinal integer, directory text, url text, repository text, checksums text[],
                    keys text[], digest text)
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
       insert into layer_sources (source_id, blob_id, ordinal, directory)
       select coalesce(l.id, n.id), l.blob_id, l.ordinal, l.directory
         from listed_sources l
         left join new_sources n using (digest)
           on conflict (blob_id, ordinal) do update
          set source_id = excluded.source_id,
              directory = excluded.directory
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
     ), named as materialized (
       select distinct g.blob_id, n.name
         from given g
        cross join json_array_elements_text(g.names) as n (name)
     ), indexed as materialized (
       select k.blob_id, k.ordinal, k.name, k.version, named.name is not null as is_named,
              bool_or(named.name is not null) over (partition by k.blob_id, k.ordinal) as has_named
         from (
           select distinct l.blob_id, l.ordinal, o.name, o.version
             from listed_sources l
            cross join unnest(l.keys) as held (key)
             join opam_sources o on o.key = held.key
         ) k
         left join named using (blob_id, name)
     ), inside as materialized (
       select blob_id, ordinal, name, version
         from indexed
        where is_named or not has_named
     ), claimed as materialized (
       select g.blob_id, p.ecosystem, p.name, p.version, p.basis, p.source, p."isNamed" as is_named
         from given g
         join present on present.id = g.blob_id
        cross join json_to_recordset(g.packages)
              as p (ecosystem text, name text, version text, basis text, source integer, "isNamed" boolean)
     ), facts as (
       select i.blob_id, 'opam' as ecosystem, i.name, i.version, 'index' as basis, i.ordinal as source
         from inside i
        where not exists (
              select true
                from claimed c
               where c.blob_id = i.blob_id
                 and c.name = i.name
                 and c.basis = 'lock')
       union all
       select c.blob_id, c.ecosystem, c.name, c.version, c.basis, c.source
         from claimed c
        where c.basis in ('installed', 'lock')
           or (
                not exists (
                      select true
                        from inside i
                       where i.blob_id = c.blob_id
                         and i.name = c.name)
                and not exists (
                      select true
                        from inside i
                       where not c.is_named
                         and i.blob_id = c.blob_id
                         and i.ordinal = c.source)
              )
       union all
       select c.blob_id, c.ecosystem, c.name, c.version, c.basis, i.ordinal
         from claimed c
         join inside i on i.blob_id = c.blob_id and i.name = c.name
        where c.basis = 'lock'
          and c.source is null
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
