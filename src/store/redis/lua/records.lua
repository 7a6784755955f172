-- Reads and writes counters; numbers.lua describes their values.

-- How long a hold that has ended is still known, in microseconds: it takes no room any more,
-- but its hits can be counted.
local KNOWN = 50000000
-- The time by which holds end: the server's, as the clocks of instances may differ by more
-- than calls take. If it may not be asked for, that of the call.
local server_time
local function clock()
  if server_time == nil then
    local time = redis.pcall('TIME')
    server_time = time[1] and time[1] * 1000000 + time[2] or false
  end
  return server_time or now
end

-- What has been read, what earlier calls will have written, and what this call will.
local read, written, own = {}, {}, {}

-- The parts of `value`.
local function parse(value)
  local own = 0
  if string.byte(value) == 35 then
    own = 5 <= #value and struct.unpack('>I4', value, 2) + 1 or #value + 1
    if #value < own then
      return { state = '', banned = 0, holds = {} }
    end
  end
  local at = string.find(value, '[!&]', own + 1)
  if not at then
    return { state = value, banned = 0, holds = {} }
  end
  local record = { state = string.sub(value, 1, at - 1), banned = 0, holds = {} }
  local rest = string.sub(value, at)
  local ban = string.match(rest, '^!(%d+)')
  local length = ban and #ban + 1 or 0
  record.banned = tonumber(ban or 0)
  local sound = record.banned <= MOST
  for id, hits, ends in string.gmatch(string.sub(rest, length + 1), '&(%d+):(%d+):(%d+)') do
    length = length + #id + #hits + #ends + 3
    local hold = { id = tonumber(id), hits = tonumber(hits), ends = tonumber(ends) }
    sound = sound and 0 < hold.id and hold.id <= MOST and hold.hits <= MOST and hold.ends <= MOST
    table.insert(record.holds, hold)
  end
  if not sound or length ~= #rest then
    record.banned, record.holds = 0, {}
  end
  return record
end

-- What is kept under `key`, as this call sees it.
local function kept(key)
  local change = own[key] or written[key]
  if change then
    return change
  end
  if not read[key] then
    local value = redis.pcall('GET', key)
    if type(value) == 'table' and not string.find(value.err, 'WRONGTYPE', 1, true) then
      -- It cannot be known what is kept: this fails as well, and with it the call.
      value = redis.call('GET', key)
    end
    read[key] = parse(type(value) == 'string' and value or '')
  end
  return read[key]
end

-- For how many milliseconds `key` is kept, as this call sees it.
local function left(key)
  local change = own[key] or written[key]
  return change and change.ttl or redis.call('PTTL', key)
end

-- Has `key` hold this. `life` is that of the state if that changes; `more` is by how many
-- milliseconds to put the expiry off.
local function write(charge, state, banned, holds, life)
  local change = { state = state, banned = banned, holds = {} }
  local ttl = life and lifetime(life) or 0
  if 0 < banned and now < banned + charge.penalty then
    ttl = math.max(ttl, lifetime(math.min(banned + charge.penalty - now, charge.penalty)))
  elseif life then
    -- It is over, and so is what it was about.
    change.banned = 0
  end
  for _, hold in ipairs(holds) do
    local left_of_it = hold.ends + KNOWN - clock()
    if 0 < left_of_it then
      table.insert(change.holds, hold)
      ttl = math.max(ttl, lifetime(left_of_it))
    end
  end
  local rest = 0
  if not life or charge.kind.shares or 0 < #holds or 0 < banned then
    -- Something is kept beside what changes, or rules with windows of different length
    -- share the name.
    rest = left(charge.key)
  end
  change.ttl = rest < ttl and ttl + charge.more or rest
  if change.ttl <= 0 then
    change.ttl = grace
  end
  own[charge.key] = change
end

local function record_text(record)
  local state = record.state
  if type(state) == 'table' then
    state = state.write(state)
  end
  if record.banned <= 0 and #record.holds == 0 then
    return state
  end
  local texts = { state }
  if 0 < record.banned then
    table.insert(texts, '!' .. text(record.banned))
  end
  for _, hold in ipairs(record.holds) do
    table.insert(texts, '&' .. text(hold.id) .. ':' .. text(hold.hits) .. ':' .. text(hold.ends))
  end
  return table.concat(texts)
end

-- Has the call that is made be seen by the next.
local function done()
  for name, it in pairs(own) do
    written[name] = it
  end
  own = {}
end

local function write_all()
  for name, it in pairs(written) do
    local value = record_text(it)
    if value == '' then
      redis.call('DEL', name)
    else
      redis.call('SET', name, value, 'PX', text(it.ttl))
    end
  end
end

