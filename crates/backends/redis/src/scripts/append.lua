-- Appends a small batch of a producer, unless it is known. For a few entries this is less work than a transaction.
-- KEYS: stream, producer. ARGV: number, entries, batches remembered, milliseconds remembered, then for each entry the count
-- of its arguments and the arguments.
local stream, producer = KEYS[1], KEYS[2]
local number = ARGV[1]
local found, smallest, old = recall(producer, number)
if old then return { 'old', smallest } end
if found then
  redis.call('PEXPIRE', producer, ARGV[4])
  return known(stream, found)
end
local reply, at = { 'stored' }, 5
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  reply[#reply + 1] = redis.call('XADD', stream, '*', unpack(ARGV, at + 1, at + count))
  at = at + 1 + count
end
remember(producer, number, reply[2], reply[#reply])
return reply
