-- Leases are kept as `#`, HEADER, and for each of them, the oldest first, its moment and how
-- many hits there have been up to it. The header says how many bytes all of that is, how
-- many one lease is, from which moment theirs count, and how many hits there had been before
-- the oldest. So it is found without reading the others which leases have ended and how many
-- hits are left; those are dropped by moving where the list begins.
--
-- Moments and hits count modulo `reach` and `wrap`: 2^48 and 2^16, or 2^53 both in the
-- few lists that are longer, or have more hits.
local HEADER, HEADER_SIZE = '>I4BI7I7', 19
local NARROW = { size = 8, format = '>I6I2', reach = 281474976710656, wrap = 65536 }
local WIDE = { size = 14, format = '>I7I7', reach = MOST + 1, wrap = MOST + 1 }
local KINDS = { [NARROW.size] = NARROW, [WIDE.size] = WIDE }

-- A list while it is worked with. It is never changed, only copied, so that its leases may
-- stay where they are: `body` of them in `text`, which begin at `from`, and those that this
-- script has added in `tail`.
local EMPTY = { count = 0, held = 0, first = 0, last = 0 }

local function copy(list)
  return {
    kind = list.kind, base = list.base, start = list.start, text = list.text, from = list.from,
    body = list.body, tail = list.tail, count = list.count, held = list.held,
    first = list.first, last = list.last, write = list.write,
  }
end

-- a + b modulo `wrap`, which both are less than.
local function wrapped(a, b, wrap)
  local room = wrap - b
  return a < room and a + b or a - room
end

local function list_text(list)
  local size = list.kind.size
  local header = struct.pack(HEADER, HEADER_SIZE + list.count * size, size, list.base, list.start)
  local body = string.sub(list.text, list.from, list.from + list.body * size - 1)
  return '#' .. header .. body .. list.tail
end

-- The moment of a lease, and how many hits it has together with those before it.
local function lease_at(list, i)
  local kind, moment, sum = list.kind, nil, nil
  if i <= list.body then
    moment, sum = struct.unpack(kind.format, list.text, list.from + (i - 1) * kind.size)
  else
    moment, sum = struct.unpack(kind.format, list.tail, (i - list.body - 1) * kind.size + 1)
  end
  return list.base + moment, (sum - list.start) % kind.wrap
end

-- The place of the first lease after `moment` that has more than `hits` with those before
-- it; the one behind the last if there is none. It is mostly one of the first.
local function place_after(list, moment, hits)
  local low, high, far = 1, list.count + 1, 1
  while low < high do
    local middle = math.min(math.floor((low + high) / 2), far)
    local granted, held = lease_at(list, middle)
    if moment < granted and hits < held then
      high = middle
    else
      low, far = middle + 1, 2 * middle
    end
  end
  return low
end

local function is_narrow(first, last, held)
  return last - first < NARROW.reach and held < NARROW.wrap
end

-- The leases in `found`, which are in order and have `held` hits, as a list.
local function packed(found, held)
  local base, last, sum, leases = found[1][1], found[#found][1], 0, {}
  local kind = is_narrow(base, last, held) and NARROW or WIDE
  for i, it in ipairs(found) do
    sum = sum + it[2]
    if i == #found or it[1] < found[i + 1][1] then
      leases[#leases + 1] = struct.pack(kind.format, it[1] - base, sum)
    end
  end
  return {
    kind = kind, base = base, start = 0, text = table.concat(leases), from = 1, body = #leases,
    tail = '', count = #leases, held = held, first = base, last = last, write = list_text,
  }
end

-- What was kept before: `granted@hits,` for each lease, and still earlier `end:hits,`.
local function old_list(state, lease)
  local found, length, held = {}, 0, 0
  for granted, mark, hits in string.gmatch(state, '(%d+)([@:])([1-9]%d*),') do
    length = length + #granted + #hits + 2
    granted, hits = tonumber(granted), tonumber(hits)
    if mark == ':' then
      granted = math.max(granted - lease, 0)
    end
    held = held + hits
    if MOST < granted + lease or MOST < held then
      return EMPTY
    end
    found[#found + 1] = { granted, hits }
  end
  if length ~= #state or length == 0 then
    return EMPTY
  end
  table.sort(found, function(a, b) return a[1] < b[1] end)
  return packed(found, held)
end

local function new_list(state)
  if #state <= HEADER_SIZE + 1 then
    return EMPTY
  end
  local length, size, base, start = struct.unpack(HEADER, state, 2)
  local kind = KINDS[size]
  local count = kind and (length - HEADER_SIZE) / size or 0
  if length + 1 ~= #state or count < 1 or count % 1 ~= 0 or MOST < base or kind.wrap <= start then
    return EMPTY
  end
  local list = {
    kind = kind, base = base, start = start, text = state, from = HEADER_SIZE + 2, body = count,
    tail = '', count = count, write = list_text,
  }
  list.first = lease_at(list, 1)
  list.last, list.held = lease_at(list, count)
  -- Each lease has a hit.
  return list.first <= list.last and list.last <= MOST and count <= list.held and list or EMPTY
end

-- What has been read, so that nothing is twice.
local lists = {}

local function list_in(state, lease)
  if type(state) == 'table' then
    return state
  end
  local list = lists[state]
  if not list then
    list = string.byte(state) == 35 and new_list(state) or old_list(state, lease)
    lists[state] = list
  end
  return list
end

-- The list without the leases before a place.
local function list_from(list, place)
  local kind, gone = list.kind, place - 1
  if gone == 0 then
    return list
  elseif list.count == gone then
    return EMPTY
  end
  local _, hits = lease_at(list, gone)
  local rest = copy(list)
  rest.first = lease_at(list, place)
  rest.count, rest.held = list.count - gone, (list.held - hits) % kind.wrap
  rest.start = wrapped(list.start, hits, kind.wrap)
  if gone < list.body then
    rest.from, rest.body = list.from + gone * kind.size, list.body - gone
  else
    rest.tail, rest.body = string.sub(list.tail, (gone - list.body) * kind.size + 1), 0
  end
  return rest
end

-- The leases that have not ended, and the latest moment that is known.
local function live(list, lease)
  if MOST < list.last + lease then
    return EMPTY, now
  end
  local latest = math.max(list.last, now)
  if list.count == 0 or latest < list.first + lease then
    return list, latest
  end
  return list_from(list, place_after(list, latest - lease, 0)), latest
end

-- The list with a lease of `hits` at `moment`, before which all others were granted.
local function list_with(list, moment, hits)
  local held = list.held + hits
  local kind = is_narrow(list.count > 0 and list.first or moment, moment, held) and NARROW or WIDE
  if list.kind ~= kind or kind.reach <= moment - list.base then
    local found, before = {}, 0
    for i = 1, list.count do
      local granted, sum = lease_at(list, i)
      found[i], before = { granted, sum - before }, sum
    end
    found[list.count + 1] = { moment, hits }
    return packed(found, held)
  end
  local all = copy(list)
  if list.last ~= moment then
    all.count = list.count + 1
  elseif list.body == list.count then
    all.body = list.body - 1
  else
    all.tail = string.sub(list.tail, 1, -1 - kind.size)
  end
  all.held, all.last = held, moment
  all.tail = all.tail .. struct.pack(kind.format, moment - list.base, wrapped(list.start, held, kind.wrap))
  return all
end

-- The list without `hits`, fewer than it has, of the leases that end first.
local function list_without(list, hits)
  local rest = copy(list_from(list, place_after(list, -1, hits)))
  hits = hits - (list.held - rest.held)
  rest.start, rest.held = wrapped(rest.start, hits, rest.kind.wrap), rest.held - hits
  return rest
end

-- When `excess` slots are free; 0 if there are not so many, or if none has to be.
local function freed(list, lease, excess)
  if excess <= 0 or list.held < excess then
    return 0
  end
  return lease_at(list, place_after(list, -1, excess - 1)) + lease
end

-- What to keep, and how long it means something after `latest`.
local function leases_kept(list, lease, latest)
  if list.count == 0 then
    return '', 0
  end
  return list, life_after(latest, math.max(list.last + lease - latest, 0))
end

local function leases(state, hits, requests, lease)
  local list, latest = live(list_in(state, lease), lease)
  local held = list.held
  local function told(free)
    return { list.held, free, list.count > 0 and list.last + lease or 0 }
  end
  local before, free = told(0), 0
  if 0 < hits then
    if not forced and requests < held + hits then
      before[2] = freed(list, lease, held - requests + hits)
      return false, before, before
    end
    local added = math.min(hits, MOST - held)
    if 0 < added then
      list = list_with(list, latest, added)
    end
    free = freed(list, lease, list.held - requests + hits)
  elseif hits < 0 and held > 0 then
    list = -hits < held and list_without(list, -hits) or EMPTY
  else
    return true, before, before
  end
  return true, before, told(free), leases_kept(list, lease, latest)
end

-- The list without `given` of the `own` hits of one lease.
local function list_less(list, place, given, own)
  if list.held == given then
    return EMPTY
  end
  local kind, rest, later = list.kind, copy(list), {}
  for i = given < own and place or place + 1, list.count do
    local moment, sum = lease_at(list, i)
    later[#later + 1] = struct.pack(kind.format, moment - list.base, wrapped(list.start, sum - given, kind.wrap))
  end
  rest.body = math.min(list.body, place - 1)
  rest.tail = string.sub(list.tail, 1, (place - 1 - rest.body) * kind.size) .. table.concat(later)
  rest.count, rest.held = place - 1 + #later, list.held - given
  rest.first, rest.last = (lease_at(rest, 1)), (lease_at(rest, rest.count))
  return rest
end

-- The very lease that was granted, of which the end is told.
local function undo_leases(state, hits, _, _, told_last, _, lease)
  local list, latest = live(list_in(state, lease), lease)
  local place = place_after(list, told_last - lease - 1, 0)
  if list.count < place then
    return
  end
  local granted, sum = lease_at(list, place)
  local own = sum
  if 1 < place then
    local _, before = lease_at(list, place - 1)
    own = sum - before
  end
  local given = math.min(hits, own)
  if granted + lease ~= told_last or given <= 0 then
    return
  end
  return leases_kept(list_less(list, place, given, own), lease, latest)
end
