-- Renames columns and tables to the words that the code, the API and the documentation use. Nothing was
-- released under the old names, so no release has to run on both.

-- Attempts since the last redelivery; `attempts` counts all of them.
alter table deliveries rename column tries to round_attempts;
-- When a user last asked for a redelivery: the age of the delivery counts from then.
alter table deliveries rename column asked_at to redelivered_at;

-- One-time upload URLs.
alter table drops rename to upload_urls;
alter table upload_urls rename constraint drops_pkey to upload_urls_pkey;
alter table upload_urls rename constraint drops_secret_once to upload_urls_secret_once;
alter table upload_urls rename constraint drops_secret_hashed to upload_urls_secret_hashed;
alter table upload_urls rename constraint drops_use_whole to upload_urls_use_whole;
alter index drops_by_expiry rename to upload_urls_by_expiry;
alter sequence drops_id_seq rename to upload_urls_id_seq;

-- The analyses of a blob, one a role. `facts` is null when there is nothing to say of the blob under that
-- role: it is malformed (`problem` says why), or it is not a Solo5 kernel, which needs no problem.
alter table layer_facts rename to layer_analyses;
alter table layer_analyses rename constraint layer_facts_pkey to layer_analyses_pkey;
alter table layer_analyses rename constraint layer_facts_blob_id_fkey to layer_analyses_blob_id_fkey;
alter table layer_analyses rename column reader to analyzer_version;

-- The version of the analyzer that analyzed a manifest last; 0: it is not yet analyzed.
alter table manifests rename column reader to analyzer_version;
alter index manifests_by_reader rename to manifests_by_analyzer_version;

-- Events up to this position were pruned.
alter table feed rename column forgotten to pruned_through;

-- Event types name the webhook, not an endpoint. Bodies are text that JSON.stringify wrote, where a
-- quotation mark within a string is escaped, so `replace` finds the type and nothing else.
update webhooks
   set types = array_replace(
         array_replace(types, 'endpoint.ping', 'webhook.ping'), 'endpoint.disabled', 'webhook.disabled')
 where types && '{endpoint.ping,endpoint.disabled}';
update event_outbox
   set type = replace(type, 'endpoint.', 'webhook.'),
       data = replace(data, '"type":"endpoint.', '"type":"webhook.')
 where type in ('endpoint.ping', 'endpoint.disabled');
update events
   set type = replace(type, 'endpoint.', 'webhook.'),
       body = replace(body, '"type":"endpoint.', '"type":"webhook.')
 where type in ('endpoint.ping', 'endpoint.disabled');

-- Bytes whose rows are gone wait here until they are deleted from the store.
alter table removals rename to deletion_queue;
alter table deletion_queue rename constraint removals_pkey to deletion_queue_pkey;
alter table deletion_queue rename constraint removals_of_one to deletion_queue_of_one;
alter index removals_by_due rename to deletion_queue_by_due;
alter index removals_by_storage_key rename to deletion_queue_by_storage_key;
alter index removals_by_upload rename to deletion_queue_by_upload;
alter sequence removals_id_seq rename to deletion_queue_id_seq;

-- While one of these lasts, the bytes of blobs stay in the store.
alter table removal_holds rename to deletion_pauses;
alter table deletion_pauses rename constraint removal_holds_pkey to deletion_pauses_pkey;
alter sequence removal_holds_id_seq rename to deletion_pauses_id_seq;

-- The store may hold bytes that the stage does not list.
alter table uploads rename column untidy to needs_cleanup;
