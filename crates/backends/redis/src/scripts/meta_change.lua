-- Writes or deletes a document if it is as expected, and notes the change.
-- KEYS: document, index, revision, changes. ARGV: name, `put` or `delete`, value, `any`, `absent` or the expected version,
-- changes remembered. Replies {`conflict`, version or nothing}, {`absent`} or {`done`, new version}.
local document, index, revision, changes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local name, expected = ARGV[1], ARGV[4]
local version = redis.call('HGET', document, 'version')

if expected == 'absent' then
  if version then return { 'conflict', version } end
elseif expected ~= 'any' and version ~= expected then
  return { 'conflict', version or '' }
end
if ARGV[2] == 'delete' and not version then return { 'absent' } end

-- Versions only grow, even when somebody deleted the counter.
local latest = redis.call('XREVRANGE', changes, '+', '-', 'COUNT', 1)[1]
local reached = latest and tonumber(string.match(latest[1], '^%d+')) or 0
if tonumber(redis.call('GET', revision) or 0) < reached then redis.call('SET', revision, reached) end
local new = redis.call('INCR', revision)
if ARGV[2] == 'put' then
  redis.call('HSET', document, 'version', new, 'value', ARGV[3])
  redis.call('ZADD', index, 0, name)
else
  redis.call('DEL', document)
  redis.call('ZREM', index, name)
end
redis.call('XADD', changes, 'MAXLEN', '~', ARGV[5], new .. '-0', 'key', name)
return { 'done', tostring(new) }
