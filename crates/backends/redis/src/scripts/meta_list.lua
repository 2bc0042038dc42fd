-- All documents whose name starts with a prefix, in order, and the revision at which that was so. Only reads.
-- KEYS: index, revision. ARGV: prefix, what the keys of documents start with.
local from, to = '-', '+'
if ARGV[1] ~= '' then from, to = '[' .. ARGV[1], '(' .. ARGV[1] .. '\255' end
local reply = { redis.call('GET', KEYS[2]) or '0' }
for _, name in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], from, to)) do
  local document = redis.call('HMGET', ARGV[2] .. name, 'version', 'value')
  if document[1] then
    reply[#reply + 1] = name
    reply[#reply + 1] = document[1]
    reply[#reply + 1] = document[2]
  end
end
return reply
