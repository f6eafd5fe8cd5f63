local key, deadline, last, left = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('STRLEN', key)
left = math.min(left, last - now)
if now > deadline or left < 1 then
  return 0
end
redis.call('SET', key, ARGV[4], 'PX', string.format('%.0f', left))
return 1
