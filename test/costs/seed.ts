import type pg from 'pg'
import type { Samples } from '../attacks/route-paths.ts'

/** Rows of which there are few, and older than all others: a search that reads all rows to find them is seen. */
export const RARE = {
  artifactType: 'application/vnd.rare',
  action: 'mint',
  actor: 'seldom',
  repository: 'mine/seldom',
  target: 'genode',
  digest: `sha256:${'e'.repeat(64)}`,
} as const

const DIGEST = `'sha256:' || encode(sha256(convert_to($1 || n, 'utf8')), 'hex')`

/**
 * Adds `count` rows of each kind that a list reads, beside and around the samples: in the repository of the samples,
 * in private repositories of others, and in public ones.
 */
export async function grow(
  client: pg.Client,
  samples: Samples,
  from: number,
  to: number,
): Promise<void> {
  const run = (text: string, values: unknown[] = []) =>
    client.query(text.replaceAll('ROWS', `generate_series(${from}, ${to - 1}) as n`), values)
  const { repository, manifest, webhook } = samples
  await run(`insert into repositories (name, visibility, permanent, configured)
             select kind || '/' || n, case kind when 'open' then 'public' else 'private' end, true, true
               from ROWS, unnest(array['open', 'others']) as kind`)
  // Images of others are older and newer than the caller's: `own` and `others` alternate.
  await run(
    `insert into manifests (repository_id, digest, media_type, artifact_type, subject, bytes, pushed_by)
     select m.repository_id, ${DIGEST}, m.media_type, 'application/vnd.common', $3, 'x', 'admin'
       from manifests m, repositories r, ROWS
      where m.digest = $3 and m.repository_id = r.id and r.name = $2`,
    ['referrer', repository, manifest],
  )
  for (const [kind, owner] of [
    ['own', `r.name = '${repository}'`],
    ['others', `r.name = 'others/' || n`],
  ] as const) {
    await run(
      `with added as (
         insert into manifests (repository_id, digest, media_type, bytes, pushed_by)
         select r.id, ${DIGEST}, 'application/vnd.oci.image.manifest.v1+json', 'x', 'admin'
           from ROWS, repositories r
          where ${owner}
         returning id, repository_id
       ), sample as (
         select i.*
           from images i
           join manifests m on m.id = i.manifest_id
          where m.digest = $2
          limit 1
       ), images_added as (
         insert into images (manifest_id, repository_id, kernel_digest, target, abi_version, devices, input_id)
         select a.id, a.repository_id, s.kernel_digest, s.target, s.abi_version, s.devices, s.input_id
           from added a, sample s
         returning manifest_id
       )
       insert into image_layers (manifest_id, blob_id, role)
       select a.manifest_id, il.blob_id, il.role
         from images_added a, sample s
         join image_layers il on il.manifest_id = s.manifest_id`,
      [kind, manifest],
    )
  }
  await run(
    `insert into builds (repository_id, manifest_digest, kernel_digest, input_id, result, platform, builder_name)
     select r.id, b.manifest_digest, b.kernel_digest, b.input_id, b.result, b.platform, b.builder_name
       from ROWS
       join builds b on b.manifest_digest = $2
       join repositories r on r.name in ($1, 'others/' || n)
      where b.position = (select min(position) from builds)`,
    [repository, manifest],
  )
  // Deployments of the repository and of others, each with some targets.
  await run(
    `insert into hosts (name, state, trust, repositories, created_by)
     select 'h' || n, 'active', 'key', '{**}', 'admin' from ROWS`,
  )
  await run(
    `insert into hosts (name, state, trust, repositories, created_by, revoked_at)
     select 'h' || n || '-gone', 'revoked', 'key', '{others/*}', 'admin', now() from ROWS`,
  )
  await run(
    `with added as (
       insert into deployments (id, repository_id, tag, number, digest, kind, state, rollout, actor, targets_made,
                                wake_at, finished_at)
       select gen_random_uuid(), r.id, 'v1', d.number + n, d.digest, 'push', 'succeeded', d.rollout, 'admin', true,
              null, now()
         from deployments d, ROWS, repositories r
        where d.id = $1
          and r.name in ($2, 'others/' || n)
       returning id, number
     )
     insert into targets (deployment_id, host_id, unit, place, state)
     select a.id, h.id, 'www', 0, 'healthy'
       from added a
       join hosts h on h.name = 'h' || (a.number - 1)`,
    [samples.deployment, repository],
  )
  await run(
    `insert into units (host_id, name, repository, tag, state, boot_id, sequence, since, granted_digest)
     select h.id, 'www', $2, 'live', 'healthy', 'boot', 1, now(), ${DIGEST}
       from ROWS
       join hosts h on h.name = 'h' || n`,
    ['unit', repository],
  )
  await run(
    `insert into runs (host_id, unit, repository, kernel, from_at, to_at)
     select h.id, 'www', case n % 2 when 0 then $1 else 'others/' || n end,
            (select kernel_digest from images limit 1), now(), case n % 3 when 0 then now() end
       from ROWS
       join hosts h on h.name = 'h' || n`,
    [repository],
  )
  await run(
    `insert into blobs (digest, size, storage_key, unchecked, touched_at)
     select ${DIGEST}, 1, 'k' || n, false, now() - interval '30 days' from ROWS`,
    ['blob'],
  )
  await run(
    `insert into manifest_blobs (manifest_id, repository_id, blob_id)
     select m.id, m.repository_id, b.id
       from ROWS
       join blobs b on b.storage_key = 'k' || n
       join repositories r on r.name = 'others/' || n
       join manifests m on m.repository_id = r.id`,
  )
  await run(
    `insert into tags (repository_id, name, digest)
     select m.repository_id, 't' || n, m.digest
       from manifests m, repositories r, ROWS
      where m.digest = $2 and m.repository_id = r.id and r.name = $1`,
    [repository, manifest],
  )
  await run(
    `insert into tag_history (repository_id, tag, digest, actor, reason)
     select r.id, tag, $2, 'admin', 'push'
       from repositories r, unnest(array['v1', 'v2']) as tag, ROWS
      where r.name = $1`,
    [repository, manifest],
  )
  await run(
    `insert into audit (action, decision, actor, repository)
     select 'push', 'allowed', actor, repository
       from ROWS, unnest(array['admin', 'somebody']) as actor, unnest(array[$1, 'others/1']) as repository`,
    [repository],
  )
  await run(
    `insert into events (position, event_id, type, repository_id, sequence, tag, digest, occurred_at, body)
     select f.position + 1 + n - ${from}, gen_random_uuid(), 'image.tag.updated', r.id, n, 'v1', $2, now(), '{}'
       from repositories r, feed f, ROWS
      where r.name = $1`,
    [repository, manifest],
  )
  await run(`update feed set position = (select max(position) from events)`)
  await run(
    `insert into deliveries (webhook_id, event_position, state, finished_at)
     select w.id, e.position, 'delivered', now()
       from webhooks w, events e
      where w.name = $1
         on conflict do nothing`,
    [webhook],
  )
  await run(
    `insert into webhooks (name, url, repositories, tags, types, format, secrets_jwe, owner_name, state)
     select 'w' || n, url, repositories, tags, types, format, secrets_jwe, owner_name, 'paused'
       from webhooks, ROWS
      where name = $1
        and n % 500 = 0`,
    [webhook],
  )
  await run(
    `insert into credentials (name, kind, secret_sha256, repositories, actions, expires_at)
     select 'c' || n, 'builder', sha256(convert_to('c' || n, 'utf8')), '{a/b}', '{pull}', now() + n % 400 * interval '1 day'
       from ROWS`,
  )
  await run(
    `insert into trust_policies (name, issuer, audience, conditions, repositories, actions, token_seconds, created_by)
     select 'p' || n, 'https://issuer.example', 'a', '{"sub": ["a"]}', '{a/b}', '{pull}', 60, 'admin' from ROWS`,
  )
  await run(
    `insert into packages (ecosystem, name, version) select 'opam', 'package' || n, '1' from ROWS`,
  )
  await run(
    `insert into layer_packages (package_id, blob_id)
     select p.id, b.id
       from ROWS
       join packages p on p.name = 'package' || n
       join blobs b on b.storage_key = 'k' || n`,
  )
  // Sources of lists without an image: of other repositories.
  await run(
    `with added as (
       insert into sources (digest, url, repository, checksums)
       select 's' || n, 'https://example.org/' || n, 'example.org/' || n, array['md5=' || n] from ROWS
       returning id, checksums
     ), named as (
       insert into source_checksums (checksum, source_id) select checksums[1], id from added
     )
     insert into layer_sources (source_id, blob_id, ordinal, directory)
     select a.id, b.id, 0, 'd'
       from added a
       join blobs b on b.storage_key = 'k' || substr(a.checksums[1], 5)`,
  )
  await run(
    `insert into refresh_tokens (secret_sha256, credential_id, expires_at)
     select sha256(convert_to('r' || n, 'utf8')), c.id, now() + interval '1 day' from ROWS join credentials c on c.name = 'c' || n`,
  )
  await run(
    `insert into sessions (secret_sha256, actor, origin, credential_id, credential_secret_sha256, ends_at)
     select sha256(convert_to('s' || n, 'utf8')), c.name, 'credential:' || c.id, c.id, c.secret_sha256,
            now() + interval '1 day'
       from ROWS join credentials c on c.name = 'c' || n`,
  )
  await run(
    `insert into revocations (subject, revoked_at, expires_at)
     select 'token:' || n, now() - interval '1 hour', now() + interval '1 day' from ROWS`,
  )
  await run(
    `insert into used_identity_tokens (issuer, token_id, expires_at)
     select 'i', n::text, now() + interval '1 day' from ROWS`,
  )
  await run(
    `insert into upload_urls (secret_sha256, repository, tag, actor, expires_at)
     select sha256(convert_to('u' || n, 'utf8')), 'a', 'b', 'admin', now() + interval '1 day' from ROWS`,
  )
  await client.query('vacuum (analyze)')
}

/** Adds the few old rows. */
export async function addRareRows(client: pg.Client, samples: Samples): Promise<void> {
  const { repository, manifest, webhook } = samples
  await client.query(
    `insert into manifests (repository_id, digest, media_type, artifact_type, subject, bytes, pushed_by)
     select m.repository_id, ${DIGEST}, m.media_type, $4, $3, 'x', 'admin'
       from manifests m, repositories r, generate_series(1, 3) as n
      where m.digest = $3 and m.repository_id = r.id and r.name = $2`,
    ['rare', repository, manifest, RARE.artifactType],
  )
  await client.query(
    `insert into deployments (id, repository_id, tag, number, digest, kind, state, rollout, actor, targets_made, wake_at,
                              finished_at)
     select '00000000-0000-7000-8000-000000000000', repository_id, 'v0', 1, $2, 'push', 'succeeded', rollout, 'admin',
            true, null, now()
       from deployments
      where id = $1`,
    [samples.deployment, RARE.digest],
  )
  await client.query(
    `insert into hosts (name, state, trust, repositories, labels, created_by)
     select kind || n, 'active', 'key', array[kind || '/*', kind || '/' || n], '{"site": "a"}', 'admin'
       from generate_series(1, 30) as n, unnest(array['mine', 'guests']) as kind`,
  )
  await client.query(
    `insert into audit (action, decision, actor, repository)
     values ($1, 'allowed', 'admin', null),
            ('push', 'allowed', $2, null),
            ('push', 'allowed', 'admin', $3),
            ('push', 'refused', 'admin', null)`,
    [RARE.action, RARE.actor, RARE.repository],
  )
  await client.query(
    `update deliveries set state = 'failed', finished_at = now()
      where webhook_id = (select id from webhooks where name = $1)`,
    [webhook],
  )
}
