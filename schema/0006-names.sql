-- Renames columns and tables to the words that the code, the API and the documentation use. Nothing was
-- released under the old names, so no release has to run on both.

-- Attempts since the last redelivery; `attempts` counts all of them.
alter table deliveries rename column tries to round_attempts;
-- When a user last asked for a redelivery: the age of the delivery counts from then.
alter table deliveries rename column asked_at to redelivered_at;

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
