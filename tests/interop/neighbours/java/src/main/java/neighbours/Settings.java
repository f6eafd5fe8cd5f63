package neighbours;

/** What the environment says; the same variables for every neighbour, see the README. */
record Settings(
    String kind, String redisHost, int redisPort, int redisDb, String wechat, String mesh, String appid,
    String secret, String mode, boolean stable, String key, String prefix, String codec, long runMs, long pauseMs,
    double lifeScale, double refreshBeforeS) {

  static Settings fromEnvironment(String[] args) {
    String redis = env("REDIS", "127.0.0.1:6379");
    int colon = redis.lastIndexOf(':');
    String mode = env("MODE", "own");
    return new Settings(
        args.length == 2 && args[0].equals("--kind") ? args[1] : env("KIND", null),
        redis.substring(0, colon),
        Integer.parseInt(redis.substring(colon + 1)),
        Integer.parseInt(env("REDIS_DB", "0")),
        env("WECHAT", null),
        env("MESH", ""),
        env("APPID", null),
        // A reader has no valid secret, so every token that it uses was written by somebody else.
        mode.equals("reader") ? "no-secret" : env("SECRET", null),
        mode,
        env("STABLE", "0").equals("1"),
        env("KEY", ""),
        env("PREFIX", ""),
        env("CODEC", "default"),
        Long.parseLong(env("RUN_MS", "10000")),
        Long.parseLong(env("PAUSE_MS", "200")),
        Double.parseDouble(env("LIFE_SCALE", "1")),
        Double.parseDouble(env("REFRESH_BEFORE_S", "600")));
  }

  private static String env(String name, String fallback) {
    String value = System.getenv("NEIGHBOUR_" + name);
    if (value != null && !value.isEmpty()) {
      return value;
    }
    if (fallback == null) {
      throw new IllegalArgumentException("NEIGHBOUR_" + name + " is missing");
    }
    return fallback;
  }

  /** A span that WeChat or the seed counts in seconds, in real milliseconds. */
  long scaledMs(double seconds) {
    return Math.round(seconds * 1000 * lifeScale);
  }
}
