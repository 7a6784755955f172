-- a * b as five digits of 18 bits, the lowest first. Both factors are below 2^53.
local DIGIT = 262144
local function product(a, b)
  local a0, b0 = a % DIGIT, b % DIGIT
  a, b = (a - a0) / DIGIT, (b - b0) / DIGIT
  local a1, b1 = a % DIGIT, b % DIGIT
  local a2, b2 = (a - a1) / DIGIT, (b - b1) / DIGIT
  local digits = { a0 * b0, a0 * b1 + a1 * b0, a0 * b2 + a1 * b1 + a2 * b0, a1 * b2 + a2 * b1, a2 * b2 }
  for i = 1, 4 do
    local digit = digits[i] % DIGIT
    digits[i + 1] = digits[i + 1] + (digits[i] - digit) / DIGIT
    digits[i] = digit
  end
  return digits
end

-- a * b <= c * d
local function at_most(a, b, c, d)
  local left, right = product(a, b), product(c, d)
  for i = 5, 1, -1 do
    if left[i] ~= right[i] then
      return left[i] < right[i]
    end
  end
  return true
end

-- The state is `start:before:current`.
local function sliding_window_state(state, start, length)
  local began, before, current = numbers(state, 3)
  if began and began + length == start then
    return start, current, 0
  elseif not began or began < start then
    return start, 0, 0
  end
  return began, before, current
end

local function sliding_window_text(began, before, current)
  return text(began) .. ':' .. text(before) .. ':' .. text(current)
end

local function sliding_window_life(began, length, before, current)
  local rest = began + length - math.max(now, began)
  if 0 < current then
    rest = rest + length
  elseif before <= 0 then
    rest = 0
  end
  return life_after(began, rest)
end

-- `start` and `length` describe the current window.
local function sliding_window(state, hits, requests, start, length)
  local began, before, current = sliding_window_state(state, start, length)
  local old, new, passes = before, current, true
  if 0 < hits then
    local room = requests - current - hits
    local left = math.max(length - math.max(now - began, 0), 0)
    passes = forced or 0 <= room and at_most(before, left, room, length)
    if passes then
      new = math.min(current + hits, MAX_NUMBER)
    end
  else
    -- The latest hits are refunded first.
    new = math.max(current + hits, 0)
    old = math.max(before + math.min(current + hits, 0), 0)
  end
  local value = (old ~= before or new ~= current) and sliding_window_text(began, old, new)
  return passes, { began, before, current }, { began, old, new }, value, sliding_window_life(began, length, old, new)
end

local function undo_sliding_window(state, hits, granted_start, _, _, _, start, length)
  local began, before, current = sliding_window_state(state, start, length)
  if began == granted_start and 0 < math.min(current, hits) then
    current = math.max(current - hits, 0)
  elseif began == granted_start + length and 0 < math.min(before, hits) then
    before = math.max(before - hits, 0)
  else
    return
  end
  return sliding_window_text(began, before, current), sliding_window_life(began, length, before, current)
end
