-- What streams hold, without their entries. Only reads.
-- KEYS: stream, state, deletion mark, for each stream.
local rows = {}
for at = 1, #KEYS, 3 do
  local kind = redis.call('TYPE', KEYS[at]).ok
  local length, added, last, first = 0, 0, '0-0', '0-0'
  if kind == 'stream' then
    local info = redis.call('XINFO', 'STREAM', KEYS[at])
    for index = 1, #info, 2 do
      local name, value = info[index], info[index + 1]
      if name == 'length' then length = value
      elseif name == 'entries-added' then added = value
      elseif name == 'last-generated-id' then last = value
      elseif name == 'recorded-first-entry-id' then first = value
      end
    end
  end
  -- Somebody else's values in the way are as good as none.
  local state = redis.pcall('HMGET', KEYS[at + 1], 'added', 'withdrawn', 'trimmed', 'trimmed_count', 'hidden', 'end')
  if state.err then state = {} end
  local mark = redis.pcall('GET', KEYS[at + 2])
  if type(mark) == 'table' then mark = nil end
  rows[#rows + 1] = {
    kind, length, added, last, first,
    tonumber(state[1] or 0), tonumber(state[2] or 0), state[3] or '0-0', tonumber(state[4] or 0),
    state[5] or '', state[6] or '0-0', mark or '',
  }
end
return rows
