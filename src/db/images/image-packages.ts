/**
 * The packages of the manifests `$1`, each name and version once a manifest: the rows of `counted`. A package in the lock file
 * counts before the vendored one of its name in the switch export.
 */
export const COUNTED_PACKAGES = `listed as materialized (
       select il.manifest_id, il.role, il.blob_id, lp.package_id, lp.basis, lp.source, p.ecosystem, p.name, p.version
         from image_layers il
         join layer_packages lp on lp.blob_id = il.blob_id
         join packages p on p.id = lp.package_id
        where il.manifest_id = any($1::bigint[])
     ), counted as (
       select distinct on (l.manifest_id, l.ecosystem, l.name, l.version)
              l.manifest_id, l.package_id, l.ecosystem, l.name, l.version, l.basis, l.blob_id, l.source
         from listed l
        where l.role <> 'opam-switch'
           or l.basis = 'installed'
           or not exists (
                select true
                  from listed locked
                 where locked.manifest_id = l.manifest_id
                   and locked.role = 'opam-lock'
                   and locked.ecosystem = l.ecosystem
                   and locked.name = l.name)
        order by l.manifest_id, l.ecosystem, l.name, l.version, l.role = 'opam-lock' desc
     )`
