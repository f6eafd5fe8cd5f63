package neighbours;

import java.util.Map;
import me.chanjar.weixin.common.error.WxErrorException;
import org.redisson.api.RedissonClient;
import org.springframework.boot.SpringApplication;
import org.springframework.boot.autoconfigure.SpringBootApplication;
import org.springframework.context.ConfigurableApplicationContext;
import org.springframework.data.redis.core.StringRedisTemplate;

/** Runs one of the Java neighbours: {@code --kind seed}, {@code wxjava-redis} or {@code wxjava-redisson}. */
@SpringBootApplication
public class Neighbours {
  public static void main(String[] args) throws InterruptedException {
    Settings settings = Settings.fromEnvironment(args);
    Events events = new Events();
    Wire wire = new Wire(settings, events);
    SpringApplication application = new SpringApplication(Neighbours.class);
    application.setDefaultProperties(Map.of(
        "spring.data.redis.host", settings.redisHost(),
        "spring.data.redis.port", settings.redisPort(),
        "spring.data.redis.database", settings.redisDb()));
    ConfigurableApplicationContext context = application.run();
    StringRedisTemplate redis = context.getBean(StringRedisTemplate.class);
    RedissonClient redisson = settings.kind().equals("wxjava-redis") ? null : Library.redisson(settings);
    Library library = switch (settings.kind()) {
      case "seed" -> new Seed(settings, redis, redisson, wire);
      case "wxjava-redis" -> Library.wxJavaRedis(settings, redis, wire);
      case "wxjava-redisson" -> Library.wxJavaRedisson(settings, redisson, wire);
      default -> throw new IllegalArgumentException("unknown kind " + settings.kind());
    };
    events.ready(settings);
    long end = System.nanoTime() + settings.runMs() * 1_000_000;
    do {
      beside(library, events);
      if (!settings.mesh().isEmpty()) {
        wire.throughTheMesh();
      }
      Thread.sleep(settings.pauseMs());
    } while (System.nanoTime() < end);
    events.summary(settings);
    if (redisson != null) {
      redisson.shutdown();
    }
    context.close();
  }

  private static void beside(Library library, Events events) {
    long failures = events.counter("token_failures");
    try {
      library.call();
      events.call("beside", 0, null);
    } catch (WxErrorException e) {
      if (events.counter("token_failures") > failures) {
        // The token call's own errcode is in its event.
        events.call("beside", null, "no token");
        return;
      }
      // WxJava wraps a connection that failed in an error with its own code -99.
      int errcode = e.getError().getErrorCode();
      events.call("beside", errcode == -99 ? null : (Integer) errcode, errcode == -99 ? "IOException" : null);
    } catch (RuntimeException e) {
      events.call("beside", null, e.getClass().getSimpleName());
    }
  }
}
